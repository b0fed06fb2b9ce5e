//! Contexts: the servers that the configuration file knows.

use std::io::Read as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::arguments::{ContextToken, Contexts, Global};
use crate::client::Client;
use crate::config::{self, Configuration, Context};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::screen::{Column, Screen, text};

/// More than any token has.
const INPUT_BYTES_MAX: u64 = 4096;

pub(crate) fn run(global: &Global, command: Contexts) -> Result<(), Failure> {
    let screen = Screen::new(global);
    match command {
        Contexts::List => {
            let (_, configuration) = config::read()?;
            list(screen, &configuration)
        }
        Contexts::Use { name } => config::edit(|configuration| {
            known(configuration, &name)?;
            configuration.current = Some(name.clone());
            screen.note(&format!("{name} is the current context"));
            Ok(())
        }),
        Contexts::Set { name, token } => {
            let said = said(&token)?;
            config::edit(|configuration| set(configuration, &name, global.url.as_deref(), said))?;
            let (_, configuration) = config::read()?;
            list(screen, &configuration)
        }
        Contexts::Remove { name, consent } => config::edit(|configuration| {
            let holds_token = known(configuration, &name)?.token.is_some();
            if holds_token {
                confirm(consent, &format!("Remove {name:?} with the token that it keeps"))?;
            }
            configuration.contexts.remove(&name);
            if configuration.current.as_deref() == Some(name.as_str()) {
                configuration.current = None;
                screen.note("there is no current context now");
            }
            screen.note(&format!("{name} is gone"));
            Ok(())
        }),
    }
}

fn known<'a>(configuration: &'a Configuration, name: &str) -> Result<&'a Context, Failure> {
    configuration.contexts.get(name).ok_or_else(|| {
        let names: Vec<&str> = configuration.contexts.keys().map(String::as_str).collect();
        let failure = Failure::not_found(format!("there is no context {name:?}"));
        match names.as_slice() {
            [] => failure.hint("dbaas contexts set NAME --url URL adds one"),
            names => failure.with(format!("there are: {}", names.join(", "))),
        }
    })
}

fn list(screen: Screen, configuration: &Configuration) -> Result<(), Failure> {
    let items: Vec<Value> = configuration
        .contexts
        .iter()
        .map(|(name, context)| {
            json!({
                "name": name,
                "current": configuration.current.as_ref() == Some(name),
                "url": context.url,
                "token": context.token.is_some(),
                "token_file": context.token_file,
            })
        })
        .collect();
    let columns: [Column<'_>; 4] = [
        ("CURRENT", &|c| {
            if c["current"] == true { "*" } else { "" }.to_owned()
        }),
        ("NAME", &|c| text(c, "name")),
        ("URL", &|c| text(c, "url")),
        ("TOKEN", &|c| match (&c["token"], c["token_file"].as_str()) {
            (Value::Bool(true), _) => "kept".to_owned(),
            (_, Some(file)) => format!("in {file}"),
            _ => String::new(),
        }),
    ];
    screen.list(&items, &columns)
}

/// What the command line says about the token.
enum Said {
    Nothing,
    None,
    Kept(Zeroizing<String>),
    File(PathBuf),
}

fn said(token: &ContextToken) -> Result<Said, Failure> {
    if token.no_token {
        return Ok(Said::None);
    }
    if let Some(file) = &token.token_file {
        // It is read from wherever somebody is later.
        let absolute = std::path::absolute(file)
            .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        return Ok(Said::File(absolute));
    }
    if !token.token_stdin {
        return Ok(Said::Nothing);
    }
    let mut text = Zeroizing::new(String::new());
    let read = std::io::stdin()
        .lock()
        .take(INPUT_BYTES_MAX)
        .read_to_string(&mut text);
    read.map_err(|_| Failure::usage("standard input is not text"))?;
    let line = Zeroizing::new(text.lines().next().unwrap_or_default().trim().to_owned());
    if line.is_empty() {
        return Err(Failure::usage("there is no token on standard input"));
    }
    Ok(Said::Kept(line))
}

fn set(configuration: &mut Configuration, name: &str, url: Option<&str>, said: Said) -> Result<(), Failure> {
    if let Some(url) = url {
        // What is no URL of a server is refused.
        Client::new(url, None)?;
    }
    let context = match (configuration.contexts.get_mut(name), url) {
        (Some(context), url) => {
            if let Some(url) = url.filter(|url| *url != context.url) {
                url.clone_into(&mut context.url);
                // A token is for the server that it was given for.
                if matches!(said, Said::Nothing) && (context.token.is_some() || context.token_file.is_some())
                {
                    return Err(
                        Failure::usage(format!("{name:?} has a token, which is for another server"))
                            .hint("say what its token is now: --token-stdin, --token-file or --no-token"),
                    );
                }
            }
            context
        }
        (None, Some(url)) => configuration.contexts.entry(name.to_owned()).or_insert(Context {
            url: url.to_owned(),
            token: None,
            token_file: None,
        }),
        (None, None) => {
            return Err(Failure::usage(format!("there is no context {name:?} yet"))
                .hint("its server is needed: --url http://127.0.0.1:8432"));
        }
    };
    match said {
        Said::Nothing => {}
        Said::None => (context.token, context.token_file) = (None, None),
        Said::Kept(token) => {
            (context.token, context.token_file) = (Some(token.as_str().to_owned()), None);
        }
        Said::File(file) => (context.token, context.token_file) = (None, Some(file)),
    }
    if configuration.contexts.len() == 1 {
        configuration.current.get_or_insert_with(|| name.to_owned());
    }
    Ok(())
}
