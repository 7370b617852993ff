//! Follows the directory's file: it is read again when it changes, and a mistake in it changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_api::ops::ReadyPart;
use countersign_identity::TrustDomain;
use countersign_policy::files::stamp;

use crate::directory;
use crate::metrics::DirectoryMetrics;
use crate::world::WorldSender;

/// How often the file is glanced at.
const GLANCE: Duration = Duration::from_millis(200);

/// The file, and whom its changes concern.
pub(crate) struct DirectoryFile {
    pub(crate) path: PathBuf,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) world: WorldSender,
    pub(crate) ready: ReadyPart,
    pub(crate) metrics: DirectoryMetrics,
}

impl DirectoryFile {
    /// Follows the file for ever.
    pub(crate) async fn follow(self) {
        loop {
            // Stamped before it is read, so that no change falls in between.
            let seen = stamp_of(&self.path);
            self.read();
            while stamp_of(&self.path) == seen {
                tokio::time::sleep(GLANCE).await;
            }
        }
    }

    /// Reads the file as it is now.
    fn read(&self) {
        match directory::read_file(&self.path, &self.trust_domain) {
            Ok(directory) => {
                let (workloads, services) = (directory.workloads.len(), directory.services.len());
                self.world.send_if_modified(|world| {
                    world.directory.mistakes = Arc::default();
                    let changed = world.directory.in_force.as_deref() != Some(&directory);
                    if changed {
                        world.directory.in_force = Some(Arc::new(directory));
                    }
                    changed
                });
                tracing::info!(workloads, services, "directory in force");
                self.metrics.in_force(workloads);
                self.ready.ready();
            }
            Err(mistakes) => {
                let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                for mistake in &mistakes {
                    tracing::warn!(%mistake, "the directory has a mistake");
                }
                let first = mistakes.first().cloned().unwrap_or_default();
                self.world
                    .send_modify(|world| world.directory.mistakes = mistakes.into());
                if self.world.borrow().directory.in_force.is_none() {
                    self.ready
                        .not_ready(format!("no directory was read yet: {first}"));
                }
                self.metrics.rejected();
            }
        }
    }
}

fn stamp_of(path: &Path) -> Option<(u64, u64, i64, i64)> {
    fs::metadata(path).ok().as_ref().map(stamp)
}

#[cfg(test)]
mod tests {
    use countersign_api::ops::Readiness;
    use tokio::sync::watch;

    use super::*;
    use crate::world::World;

    const ONE: &str =
        "workloads:\n- {name: a, namespace: n, serviceAccount: a, wireAddress: \"127.0.0.1:1\"}\n";

    #[tokio::test]
    async fn a_change_is_read_and_a_mistake_keeps_the_last_good() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("directory.yaml");
        let world = watch::Sender::new(World::default());
        let readiness = Readiness::new();
        let file = DirectoryFile {
            path: path.clone(),
            trust_domain: TrustDomain::parse("shop.example").unwrap(),
            world: world.clone(),
            ready: readiness.part("directory"),
            metrics: DirectoryMetrics::default(),
        };
        let following = tokio::spawn(file.follow());
        let mut seen = world.subscribe();
        seen.wait_for(|world| !world.directory.mistakes.is_empty())
            .await
            .unwrap();
        assert!(
            readiness
                .to_string()
                .contains("no directory was read yet: "),
            "{readiness}"
        );

        let replace = |text: &str| {
            let new = directory.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, &path).unwrap();
        };
        replace(ONE);
        let known = |world: &World, name: &str| {
            world
                .directory
                .in_force
                .as_ref()
                .is_some_and(|directory| directory.workloads.contains_key(name))
        };
        seen.wait_for(|world| known(world, "a")).await.unwrap();
        assert!(readiness.is_ready());

        replace("workloads: [{name: b}]\n");
        let world = seen
            .wait_for(|world| !world.directory.mistakes.is_empty())
            .await
            .unwrap()
            .clone();
        assert!(known(&world, "a") && !known(&world, "b"));
        assert!(
            world.directory.mistakes[0].contains("directory.yaml:1:13: missing field"),
            "{:?}",
            world.directory.mistakes
        );
        assert!(readiness.is_ready());
        following.abort();
    }
}
