//! What the product bears in operation: its operator, the node's container runtime and the API server go away and come
//! back, replicas change places, versions change. On a real cluster only, and one at a time, since each disturbs all.

mod beside;
mod chart;
mod images;
mod install;
mod killed;
mod monitoring;
mod movers;
mod needs;
mod one_namespace;
mod outages;
mod outside;
mod permissions;
mod plain;
mod plan;
mod release;
mod replicas;
mod storage;
mod system;
mod taking_over;
mod upgrade;
mod volsync_definitions;

use tokio::sync::{Mutex, MutexGuard};

/// Whose turn it is to disturb the cluster.
static TURN: Mutex<()> = Mutex::const_new(());

/// Waits for one's turn, which lasts as long as the value.
async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}
