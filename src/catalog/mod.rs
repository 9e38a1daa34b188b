//! stub
use crate::saga::Definition;
use std::sync::Arc;
#[derive(Debug, Default, Clone)]
pub struct Catalog;
pub struct LoadedDefinition {
    pub definition: Definition,
}
pub fn load(_name: &str, _text: &str) -> Result<LoadedDefinition, ()> {
    Err(())
}
impl Catalog {
    pub fn add(&mut self, _l: LoadedDefinition) {}
    pub fn len(&self) -> usize {
        0
    }
    pub fn definition(&self, _n: &str, _v: u32) -> Option<Arc<Definition>> {
        None
    }
    pub fn starting_on(&self, _e: &str) -> Vec<Arc<Definition>> {
        vec![]
    }
    pub fn cancelled_by(&self, _e: &str) -> Vec<String> {
        vec![]
    }
    pub fn awaiting(&self, _e: &str) -> Vec<String> {
        vec![]
    }
    pub fn participants(&self) -> Vec<String> {
        vec![]
    }
    pub fn order_events(&self) -> Vec<String> {
        vec![]
    }
    pub fn facts(&self) -> Vec<String> {
        vec![]
    }
}
