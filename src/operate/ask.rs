//! What an operator asks for, in the words of definitions, and what that means to a saga.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::OperateError;
use crate::saga::{
    AttentionCode, BY_OPERATOR, Definition, Input, Resolution, Saga, Time, Verb, Verdict, decide,
};

/// The verbs, as they are kept in the audit and sent over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// Send what is out once more, now; without a step: all that is out.
    Retry {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<String>,
    },
    /// The outcome of a step, or of its compensation, is known from elsewhere.
    Resolve {
        step: String,
        #[serde(rename = "as")]
        outcome: As,
        /// Of a rejection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// What later steps need of a success.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<Value>,
    },
    /// Go on without this step.
    Skip {
        step: String,
    },
    Cancel {},
    Hold {},
    Release {},
    /// Attention was looked at; without a code: all of it.
    Clear {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
    },
    Abandon {},
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum As {
    /// It was done; or its compensation was.
    Success,
    /// It was refused for good; its compensation came too late.
    Rejected,
    /// There was nothing to undo.
    NothingToDo,
}

impl Ask {
    pub const VERBS: [&str; 8] =
        ["retry", "resolve", "skip", "cancel", "hold", "release", "clear", "abandon"];

    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Ask::Retry { .. } => "retry",
            Ask::Resolve { .. } => "resolve",
            Ask::Skip { .. } => "skip",
            Ask::Cancel {} => "cancel",
            Ask::Hold {} => "hold",
            Ask::Release {} => "release",
            Ask::Clear { .. } => "clear",
            Ask::Abandon {} => "abandon",
        }
    }

    /// What it means to this saga now: several inputs where it was said of all steps. Empty
    /// where none of them would be legal.
    ///
    /// # Errors
    /// It names a step or a code that there is not.
    pub(super) fn inputs(
        &self,
        definition: &Definition,
        saga: &Saga,
        now: Time,
    ) -> Result<Vec<Input>, OperateError> {
        let named = |name: &String| {
            let known = || definition.steps().iter().map(|step| step.name.clone()).collect();
            let step = definition.steps().iter().position(|step| step.name == *name);
            step.ok_or_else(|| OperateError::UnknownStep { step: name.clone(), known: known() })
        };
        let one = |verb: Verb| Ok(vec![Input::Operator(verb)]);
        match self {
            Ask::Retry { step: Some(step) } => one(Verb::Retry { step: named(step)? }),
            Ask::Retry { step: None } => {
                let retries = (0..saga.steps.len()).map(|step| Verb::Retry { step });
                let inputs = retries.map(Input::Operator);
                let is_legal = |input: &Input| {
                    decide(definition, saga, input, now).verdict == Verdict::Applied
                };
                Ok(inputs.filter(is_legal).collect())
            }
            Ask::Resolve { step, outcome, code, data } => {
                let resolution = match outcome {
                    As::Success => Resolution::Success {
                        data: data.as_ref().map(|data| data.to_string().into()),
                    },
                    As::Rejected => {
                        Resolution::Rejected { code: code.as_deref().unwrap_or(BY_OPERATOR).into() }
                    }
                    As::NothingToDo => Resolution::NothingToDo,
                };
                one(Verb::Resolve { step: named(step)?, resolution })
            }
            Ask::Skip { step } => one(Verb::Skip { step: named(step)? }),
            Ask::Cancel {} => Ok(vec![Input::Cancel]),
            Ask::Hold {} => one(Verb::Hold),
            Ask::Release {} => one(Verb::Release),
            Ask::Clear { step, code } => {
                let step = step.as_ref().map(named).transpose()?;
                let code = code.as_deref().map(attention_code).transpose()?;
                let all = saga.attention.iter().filter(|attention| {
                    attention.code != AttentionCode::Held
                        && (step.is_none() || attention.step == step)
                        && code.is_none_or(|code| attention.code == code)
                });
                let clear = all.map(|a| Verb::Clear { step: a.step, code: a.code });
                Ok(clear.map(Input::Operator).collect())
            }
            Ask::Abandon {} => one(Verb::Abandon),
        }
    }
}

fn attention_code(text: &str) -> Result<AttentionCode, OperateError> {
    let wanted = text.to_ascii_uppercase().replace('-', "_");
    let found = AttentionCode::ALL.into_iter().find(|code| code.as_str() == wanted);
    found.ok_or_else(|| OperateError::UnknownCode(text.to_owned()))
}

/// An operator's verb as a person reads it.
pub(super) fn told(definition: &Definition, verb: &Verb) -> String {
    let name = |step: usize| definition.steps().get(step).map_or("an unknown step", |s| &s.name);
    match verb {
        Verb::Resolve { step, resolution } => {
            format!("resolve {} as {}", name(*step), resolution.as_str())
        }
        Verb::Clear { step, code } => {
            format!("clear {} at {}", code.as_str(), step.map_or("the saga", name))
        }
        verb => match verb.step() {
            Some(step) => format!("{} {}", verb.name(), name(step)),
            None => verb.name().to_owned(),
        },
    }
}
