//! Random histories with flushes, checkpoints, crashes and restarts: the engine always holds what its oracle says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use setpiece_model_engine::{Config, Model, State};

#[derive(Clone, Debug)]
enum Act {
    Run(usize),
    Crash,
    Close,
    Flush,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1usize..60).prop_map(Act::Run),
        3 => Just(Act::Crash),
        1 => Just(Act::Close),
        1 => Just(Act::Flush),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn holds_what_the_oracle_says(seed in any::<u64>(), archive in any::<bool>(), acts in proptest::collection::vec(act(), 1..14)) {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::random(seed);
        config.archive = archive;
        let mut model = Model::new(config.clone(), seed, &dir.path().join("db")).unwrap();
        for act in acts {
            match act {
                Act::Run(count) => model.run(count).unwrap(),
                Act::Crash => {
                    model.crash().unwrap();
                    prop_assert_eq!(model.state(), State::Crashed);
                    model.restart().unwrap();
                    prop_assert_eq!(model.difference_from_oracle().unwrap(), None);
                }
                Act::Close => {
                    model.shutdown().unwrap();
                    let content = model.oracle().at(model.branch(), model.lsn());
                    prop_assert_eq!(content.difference_in_use(&model.dir()).unwrap(), None);
                    model.restart().unwrap();
                }
                Act::Flush => model.flush_logs(true).unwrap(),
                // A process that is gone leaves its files behind, as a crash does.
                Act::Reopen => {
                    model.crash().unwrap();
                    model = Model::open(config.clone(), seed ^ 1, &model.dir(), &model.oracle()).unwrap();
                    prop_assert_eq!(model.difference_from_oracle().unwrap(), None);
                }
            }
        }
        prop_assert_eq!(model.difference_from_oracle().unwrap(), None);
    }
}

/// The same seed gives the same history, down to the bytes on disk.
#[test]
fn a_seed_is_a_history() {
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::new(Config::random(5), 5, &dir.path().join("db")).unwrap();
        model.run(400).unwrap();
        model.crash().unwrap();
        let lsn = model.lsn();
        let bytes = std::fs::read(model.dir().join("MAIN.DBF")).unwrap();
        (lsn, bytes)
    };
    assert_eq!(make(), make());
}

/// A crash does lose something: otherwise the tests above prove nothing.
#[test]
fn a_crash_loses_what_is_not_on_disk() {
    let mut lost = 0;
    for seed in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::new(Config { nodes: 3, ..Config::default() }, seed, &dir.path().join("db")).unwrap();
        model.run(100).unwrap();
        let before = model.oracle().lsns(model.branch()).len();
        model.crash().unwrap();
        lost += before - model.oracle().lsns(model.branch()).len();
    }
    assert!(lost > 20, "{lost}");
}
