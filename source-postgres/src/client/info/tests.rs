//! What a connection URI means.

use proptest::prelude::*;

use super::*;

fn info(text: &str) -> ConnectInfo {
    text.parse().unwrap()
}

fn servers(text: &str) -> Vec<(String, u16)> {
    info(text).servers().map(|(host, port)| (host.to_owned(), port)).collect()
}

fn expect(text: &str, expected: &[(&str, u16)]) {
    let expected: Vec<_> = expected.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
    assert_eq!(servers(text), expected, "{text}");
}

#[test]
fn hosts_and_ports() {
    expect("postgres://h", &[("h", 5432)]);
    expect("postgresql://h:7/", &[("h", 7)]);
    expect("kingbase://h", &[("h", 54321)]);
    expect("kingbase://h:5", &[("h", 5)]);
    expect("postgres://a:1,b,c:3/d", &[("a", 1), ("b", 5432), ("c", 3)]);
    expect("postgres://[::1]:9,[fe80::1]", &[("::1", 9), ("fe80::1", 5432)]);
    expect("postgres://%2Frun%2Fpg:6/d", &[("/run/pg", 6)]);
    expect("postgres:///d?host=/run/pg", &[("/run/pg", 5432)]);
    expect("postgres://:8/d?host=/run/pg", &[("/run/pg", 8)]);
    expect("postgres:///?port=1,2&host=a,b", &[("a", 1), ("b", 2)]);
    expect("postgres:///?host=a,b&port=3", &[("a", 3), ("b", 3)]);
    expect("postgres://a:1,b:2?host=c,d", &[("c", 1), ("d", 2)]);
    expect("postgres://a,b?port=,4", &[("a", 5432), ("b", 4)]);
}

#[test]
fn every_parameter_arrives() {
    let all = info(
        "postgres://u:p@h/d?application_name=n%20n&sslmode=verify-full&sslrootcert=/r&sslcert=/c&sslkey=/k\
         &connect_timeout=7&passfile=/f",
    );
    assert_eq!((all.user(), all.password(), all.database()), (Some("u"), Some("p"), Some("d")));
    assert_eq!((all.application_name(), all.ssl_mode()), ("n n", SslMode::VerifyFull));
    let paths = [all.ssl_root_cert(), all.ssl_cert(), all.ssl_key(), all.passfile()];
    assert_eq!(paths.map(|path| path.and_then(Path::to_str)), [Some("/r"), Some("/c"), Some("/k"), Some("/f")]);
    assert_eq!(all.connect_patience(), Some(Duration::from_secs(7)));
    let none = info("postgres://u@h");
    assert_eq!((none.password(), none.database(), none.ssl_mode()), (None, Some("u"), SslMode::Prefer));
    assert_eq!((none.connect_patience(), none.application_name()), (Some(PATIENCE), "setpiece"));
    assert_eq!(info("postgres://h?connect_timeout=0").connect_patience(), None);
    // As with libpq, what comes later counts.
    assert_eq!(info("postgres://u@h/d?user=v&dbname=e&user=w").to_string(), "postgresql://w@h/e");
    for (name, mode) in SSL_MODES {
        assert_eq!(info(&format!("postgres://h?sslmode={name}")).ssl_mode(), mode);
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_named() {
    let cases = [
        ("mysql://h", "scheme"),
        ("postgres://", "no host"),
        ("postgres:///d", "no host"),
        ("postgres://a,,b", "no host"),
        ("postgres://h?host=", "no host"),
        ("postgres://h:0", "`port`"),
        ("postgres://h:65536", "`port`"),
        ("postgres://h?port=1,2", "`port`"),
        ("postgres://a:1,b:2?host=c", "`host`"),
        ("postgres://h?sslmode=maybe", "`sslmode`"),
        ("postgres://h?sslrootcert=system", "`sslrootcert`"),
        ("postgres://h?connect_timeout=-1", "`connect_timeout`"),
        ("postgres://h?gssencmode=disable", "`gssencmode`"),
    ];
    for (text, part) in cases {
        let error = text.parse::<ConnectInfo>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
    assert!(info("postgres://h").set("user", "a\0b").is_err());
    assert!(info("postgres://h").set_default("unheard_of", "").unwrap_err().to_string().contains("`unheard_of`"));
}

#[test]
fn defaults_do_not_overrule_the_uri() {
    let names = ["user", "password", "passfile", "dbname", "application_name", "sslrootcert", "sslcert", "sslkey"];
    let mut given = info(
        "postgres://1:1@1:1/1?passfile=1&application_name=1&sslrootcert=1&sslcert=1&sslkey=1&sslmode=allow\
         &connect_timeout=1",
    );
    let before = given.clone();
    let mut bare = info("postgres://1");
    for name in names.into_iter().chain(["port", "connect_timeout"]) {
        given.set_default(name, "2").unwrap();
        bare.set_default(name, "1").unwrap();
    }
    given.set_default("host", "2").unwrap();
    given.set_default("sslmode", "disable").unwrap();
    bare.set_default("sslmode", "allow").unwrap();
    assert_eq!(given, before);
    assert!(bare == before, "{bare}");
}

#[test]
fn the_password_is_not_shown() {
    let secret = info("postgres://u:sesame@h/d");
    assert_eq!(secret.to_string(), "postgresql://u@h/d");
    assert!(!format!("{secret:?} {secret:#?}").contains("sesame"));
    let odd = info("kingbase://a%2Fb@%2Fs%2C,[::1]:5/x%3F?sslmode=disable&application_name=%26");
    assert_eq!(odd.to_string(), "kingbase://a%2Fb@%2Fs%2C,[::1]:5/x%3F?application_name=%26&sslmode=disable");
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof!["[^\0]{1,12}", "[a%@:/?&=,\\[\\]+ ]{1,12}", "[a-z]{1,8}"]
}

proptest! {
    #[test]
    fn its_text_means_the_same(
        values in proptest::collection::vec((0_usize..8, texts()), 0..8),
        hosts in proptest::collection::vec((texts(), proptest::option::of(1_u16..)), 1..4),
        mode in proptest::option::of(0_usize..6),
        seconds in proptest::option::of(any::<u32>()),
        kingbase in any::<bool>(),
    ) {
        let names = ["user", "dbname", "application_name", "sslrootcert", "sslcert", "sslkey", "passfile", "password"];
        let mut made = info(if kingbase { "kingbase://h" } else { "postgres://h" });
        for (name, value) in values {
            made.set(names[name], &value).unwrap();
        }
        made.places = hosts.into_iter().map(|(host, port)| Place { host, port }).collect();
        made.ssl_mode = mode.map(|mode| SSL_MODES[mode].1);
        made.connect_timeout = seconds;
        let again = info(&made.to_string());
        made.set("password", "").unwrap();
        prop_assert_eq!(again, made);
    }

    #[test]
    fn nothing_makes_it_panic(text in ".*", shape in "[a1%25@:/?&=,\\[\\]]{0,40}", name in "[a-z_]{0,16}") {
        let _either = text.parse::<ConnectInfo>().is_ok();
        if let Ok(mut info) = format!("postgres://{shape}").parse::<ConnectInfo>() {
            let _either = info.set(&name, &text).is_ok();
            prop_assert_eq!(info.to_string().parse::<ConnectInfo>().map(|again| again.to_string()).unwrap(), info.to_string());
        }
    }
}
