//! `operator-token`: a token for the operators' API, and the lines that let its holder in.

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::{End, print_json};
use crate::http::token_hash;

#[derive(Debug, Args)]
pub(super) struct OperatorToken {
    /// Whose it is: kept in the audit with all that is done with it.
    name: String,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

impl OperatorToken {
    pub fn run(self) -> anyhow::Result<End> {
        // 244 bits of the operating system's randomness.
        let token = format!("mgop_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let (name, hash) = (self.name, token_hash(&token));
        if self.json {
            print_json(&json!({ "name": name, "token": token, "hash": hash }))?;
            return Ok(End::Good);
        }
        println!("The token, which is shown once: {token}\n");
        println!("In the file that `operators` names:\n");
        println!(
            "[[operator]]\nname = {name:?}\ntokens = [\"{hash}\"]\nmay = \"act\"    # or \"look\""
        );
        Ok(End::Good)
    }
}
