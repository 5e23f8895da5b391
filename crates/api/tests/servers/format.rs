//! Formats of the log: a new cluster takes the newest into use, and who does not know it is not let in.
//!
//! It refuses an older build; tests/tests/fleet/upgrade.rs has a real one.

use certwright_core::spec::KeyAlgorithm;
use certwright_core::x509::Names;
use certwright_core::{Format, Reason};
use certwright_custody::LeafKey;
use certwright_proto::join_token;
use certwright_proto::status::from_status;
use certwright_proto::v1;
use certwright_proto::v1::join_client::JoinClient;

use crate::support::{Cluster, PATIENCE, token, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_an_older_build_is_not_let_in_and_its_token_stays_good() {
    let cluster = Cluster::of(1).await;
    let through = cluster.channel(1).clone();
    let newest = Format::NEWEST.0;
    let seen = until("the newest format is in use", PATIENCE, async || {
        crate::support::cluster(&through).await.ok().filter(|seen| seen.format == newest)
    })
    .await;
    assert_eq!((seen.nodes[0].format, &*seen.nodes[0].members), (newest, &[1][..]));

    let shown = token(&through, "node", "").await;
    let shown = join_token::parse(&shown).unwrap();
    let csr = LeafKey::generate(KeyAlgorithm::EcdsaP256).unwrap().request(&Names::default()).unwrap();
    let join = async |format| {
        let request = v1::JoinNodeRequest {
            token_id: shown.id.to_string(),
            token_secret: shown.secret.to_vec().into(),
            node: "late".to_string(),
            raft_address: "127.0.0.1:1".to_string(),
            api_address: "127.0.0.1:2".to_string(),
            http_address: "127.0.0.1:3".to_string(),
            csr: csr.clone().into(),
            hpke_public: vec![9; 32].into(),
            cluster_id: shown.cluster_id.to_string(),
            format,
        };
        JoinClient::new(through.clone()).join_node(request).await
    };
    let refused = from_status(&join(0).await.unwrap_err());
    assert_eq!(refused.reason, Reason::BuildTooOld, "{refused:?}");
    assert_eq!(join(newest).await.unwrap().into_inner().node_id, 2);
    cluster.stop().await;
}
