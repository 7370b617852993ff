//! A SPIFFE Workload API that serves the files of a test, and insists on the security header.

use std::path::Path;
use std::pin::Pin;

use countersign_api::workload::spiffe_workload_api_server::{
    SpiffeWorkloadApi, SpiffeWorkloadApiServer,
};
use countersign_api::workload::*;
use tokio::net::UnixListener;
use tokio::sync::{oneshot, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::{Request, Response, Status};

/// Where the certificates are from.
pub(crate) trait Files {
    fn pem(&self, name: &str) -> Vec<Vec<u8>>;
    fn key(&self) -> Vec<u8>;
}

pub(crate) struct Server {
    answer: watch::Sender<X509svidResponse>,
    id: String,
    /// Ends the server when it is dropped.
    _running: oneshot::Sender<()>,
}

impl Server {
    pub(crate) fn start(socket: &Path, id: &str, files: &dyn Files) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (answer, answers) = watch::channel(response(id, files));
        let listener = {
            let _guard = runtime.enter();
            UnixListener::bind(socket).unwrap()
        };
        let (running, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            runtime.block_on(async {
                let server = tonic::transport::Server::builder()
                    .add_service(SpiffeWorkloadApiServer::new(Api(answers)))
                    .serve_with_incoming(UnixListenerStream::new(listener));
                tokio::select! {
                    served = server => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self {
            answer,
            id: id.to_owned(),
            _running: running,
        }
    }

    /// Serves what the files have now.
    pub(crate) fn rotate(&self, files: &dyn Files) {
        self.answer.send_replace(response(&self.id, files));
    }
}

fn response(id: &str, files: &dyn Files) -> X509svidResponse {
    X509svidResponse {
        svids: vec![X509svid {
            spiffe_id: id.to_owned(),
            x509_svid: files.pem("chain.pem").concat(),
            x509_svid_key: files.key(),
            bundle: files.pem("root.pem").concat(),
            hint: String::new(),
        }],
        ..X509svidResponse::default()
    }
}

struct Api(watch::Receiver<X509svidResponse>);

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for Api {
    type FetchX509SVIDStream = Stream<X509svidResponse>;
    type FetchX509BundlesStream = Stream<X509BundlesResponse>;
    type FetchJWTBundlesStream = Stream<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let header = request.metadata().get(SECURITY_HEADER);
        if header.is_none_or(|value| value != "true") {
            return Err(Status::invalid_argument(
                "security header missing from request",
            ));
        }
        let answers = WatchStream::new(self.0.clone()).map(Ok);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Err(Status::unimplemented("not of use to this test"))
    }

    async fn fetch_jwtsvid(
        &self,
        _: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        Err(Status::unimplemented("not of use to this test"))
    }

    async fn fetch_jwt_bundles(
        &self,
        _: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        Err(Status::unimplemented("not of use to this test"))
    }

    async fn validate_jwtsvid(
        &self,
        _: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        Err(Status::unimplemented("not of use to this test"))
    }
}
