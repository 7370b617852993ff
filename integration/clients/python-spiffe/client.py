"""An unmodified SPIFFE client in Python, as the end-to-end tests run it.

Ends with 0 when it has seen its X.509-SVID rotate and has verified a JWT-SVID, and says on standard output what it has
seen: a JSON object a line.
"""

import json
import queue
import sys

from spiffe import JwtSvid, WorkloadApiClient

PATIENCE = 60


def tell(**fields):
    print(json.dumps(fields), flush=True)


def main(socket, audience):
    with WorkloadApiClient(f"unix://{socket}") as client:
        updates = queue.Queue()
        watch = client.stream_x509_contexts(updates.put, updates.put)
        serials = set()
        while len(serials) < 2:
            update = updates.get(timeout=PATIENCE)
            if isinstance(update, Exception):
                raise update
            svid = update.default_svid
            serials.add(svid.leaf.serial_number)
            tell(id=str(svid.spiffe_id), serial=f"{svid.leaf.serial_number:x}")
        watch.cancel()

        token = client.fetch_jwt_svid(audience={audience}).token
        bundles = client.fetch_jwt_bundles()
        bundle = bundles.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        verified = JwtSvid.parse_and_validate(token, bundle, {audience})
        validated = client.validate_jwt_svid(token, audience)
        tell(jwt=str(verified.spiffe_id), validated=str(validated.spiffe_id))


if __name__ == "__main__":
    main(*sys.argv[1:])
