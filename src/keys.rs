//! `keys new` and `keys show`.

use crate::args::{KeysArgs, KeysCommand};
use gateway::key_files;
use protocol::keys::fingerprint;

pub(crate) fn keys(args: &KeysArgs) -> anyhow::Result<()> {
    match &args.what {
        KeysCommand::New { file, pump } => {
            let pair = key_files::generate()?;
            key_files::save(file, &pair, *pump)?;
            println!("{} {}", pair.public(), fingerprint(&pair.public()));
        }
        KeysCommand::Show { file } => {
            let public = match key_files::load(file) {
                Ok(pair) if file.extension().is_none_or(|e| e != "pub") => pair.public(),
                Ok(_) | Err(_) => key_files::load_public(&file.to_string_lossy())?,
            };
            println!("{public} {}", fingerprint(&public));
        }
    }
    Ok(())
}
