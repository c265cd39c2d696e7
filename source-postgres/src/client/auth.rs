//! Proving to a server who we are, and by SCRAM also that the server knows the password.

use std::io;
use std::time::Instant;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use setpiece_core::{Error, ErrorKind, Result};

use super::fault::{malformed, protocol};
use super::session::Client;
use super::wire::Incoming;

/// Who logs in.
#[derive(Clone, Copy)]
pub(super) struct Account<'a> {
    pub(super) user: &'a str,
    pub(super) password: Option<&'a str>,
}

/// Answers what the server asks until it lets us in.
pub(super) fn authenticate(client: &mut Client, account: Account<'_>, deadline: Option<Instant>) -> Result<()> {
    let mut answered = false;
    loop {
        let request = next(client, deadline)?;
        if matches!(request, Message::AuthenticationOk) {
            return Ok(());
        }
        // A server asks once. One that went on for ever would be let.
        if std::mem::replace(&mut answered, true) {
            return Err(client.unexpected());
        }
        match request {
            Message::AuthenticationCleartextPassword => {
                if !client.is_encrypted() && !client.endpoint.is_unix() {
                    let error =
                        client.error(ErrorKind::Source, "the server wants the password in clear over the network");
                    return Err(error.remedy("use sslmode=require or better, or scram-sha-256 in pg_hba.conf"));
                }
                send_password(client, password(client, account)?.as_bytes(), deadline)?;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(account.user.as_bytes(), password(client, account)?.as_bytes(), body.salt());
                send_password(client, hash.as_bytes(), deadline)?;
            }
            Message::AuthenticationSasl(body) => {
                let password = password(client, account)?;
                scram(client, &body, password, deadline)?;
            }
            Message::AuthenticationGss
            | Message::AuthenticationSspi
            | Message::AuthenticationKerberosV5
            | Message::AuthenticationScmCredential => return Err(unsupported(client, "GSSAPI, SSPI or older")),
            _ => return Err(client.unexpected()),
        }
    }
}

fn next(client: &mut Client, deadline: Option<Instant>) -> Result<Message> {
    match client.answer(deadline)? {
        Incoming::Other(Message::ErrorResponse(body)) => {
            let error = client.refusal(&body);
            client.give_up(&error);
            Err(error)
        }
        Incoming::Other(message) => Ok(message),
        _ => Err(client.unexpected()),
    }
}

fn password<'a>(client: &Client, account: Account<'a>) -> Result<&'a str> {
    account.password.ok_or_else(|| {
        client
            .error(
                ErrorKind::Source,
                format!("the server wants a password of user `{}`, and none is given", account.user),
            )
            .remedy("give a passfile with a line for this server, database and user")
    })
}

fn send_password(client: &mut Client, password: &[u8], deadline: Option<Instant>) -> Result<()> {
    let mut message = BytesMut::new();
    frontend::password_message(password, &mut message).map_err(|error| client.fail(error))?;
    client.send(&message, deadline)
}

/// The dialogue of SCRAM-SHA-256 (RFC 7677). At its end both sides have proven that they know the password.
fn scram(client: &mut Client, body: &AuthenticationSaslBody, password: &str, deadline: Option<Instant>) -> Result<()> {
    let offered: Vec<&str> = body.mechanisms().collect().map_err(|error| client.fail(malformed(error)))?;
    let (mechanism, binding) = match client.stream().channel_binding() {
        Some(hash) if offered.contains(&SCRAM_SHA_256_PLUS) => {
            (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash))
        }
        // Says that we could, so that the server notices when somebody has taken its offer away.
        Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
    };
    if !offered.contains(&mechanism) {
        return Err(unsupported(client, &offered.join(", ")));
    }
    let mut scram = ScramSha256::new(password.as_bytes(), binding);
    let mut message = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut message).map_err(|error| client.fail(error))?;
    client.send(&message, deadline)?;

    let Message::AuthenticationSaslContinue(challenge) = next(client, deadline)? else {
        return Err(client.unexpected());
    };
    scram.update(challenge.data()).map_err(|error| unproven(client, &error))?;
    message.clear();
    frontend::sasl_response(scram.message(), &mut message).map_err(|error| client.fail(error))?;
    client.send(&message, deadline)?;

    let Message::AuthenticationSaslFinal(proof) = next(client, deadline)? else { return Err(client.unexpected()) };
    scram.finish(proof.data()).map_err(|error| unproven(client, &error))
}

fn unproven(client: &mut Client, error: &io::Error) -> Error {
    client.fail(protocol(format!("it does not prove that it knows the password: {error}")))
}

fn unsupported(client: &Client, methods: &str) -> Error {
    client
        .error(
            ErrorKind::Unsupported,
            format!("the server wants a proof of who we are by {}", methods.escape_default()),
        )
        .remedy("known are scram-sha-256, md5, password, trust, peer and cert; set one in pg_hba.conf of the server")
}
