//! Every server is restarted, one after the other, while people use the command line.
//!
//! It refuses a single command that fails: the client finds the leader and repeats under one request id.

use std::time::Duration;

use certwright_tests::fleet::Fleet;
use certwright_tests::people::People;
use certwright_tests::program::eventually;

#[test]
fn no_command_fails_while_all_servers_are_restarted() {
    let mut fleet = Fleet::start(3, 1);
    let people = People::start(&fleet, 2);
    // Whoever leads goes first, and is led by another one afterwards.
    let first = fleet.leader();
    let rest: Vec<String> = fleet.servers().into_iter().filter(|name| *name != first).collect();
    for name in std::iter::once(first).chain(rest) {
        people.go_on(4);
        fleet.signal(&name, "TERM");
        eventually("the server has stopped", Duration::from_secs(30), || fleet.is_gone(&name).then_some(()));
        people.go_on(4);
        fleet.restart(&name);
        eventually("all servers are back", Duration::from_secs(60), || {
            fleet.try_run(&["status"]).status.success().then_some(())
        });
    }
    people.go_on(4);
    people.stop();
    fleet.agreed_digest();
}
