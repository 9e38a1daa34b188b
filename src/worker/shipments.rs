//! Which shipments a transition booked, as the results of its steps name them.

use serde_json::Value;

use crate::order::is_id;
use crate::saga::{Definition, Phase, Saga, ShipmentFields};
use crate::store::{OrderRow, ScanRow, ShipmentRow};

/// What the steps booked that are done now and were not before.
#[derive(Debug, Default)]
pub struct Booked {
    pub shipments: Vec<ShipmentRow>,
    /// The steps whose results do not name what they booked. They are done all the same: the
    /// goods are on their way, only nobody can scan them.
    pub unnamed: Vec<String>,
}

impl Booked {
    pub fn note(&mut self, definition: &Definition, order: &OrderRow, before: &Saga, after: &Saga) {
        for (index, step) in definition.steps().iter().enumerate() {
            let Some(fields) = &step.shipment else { continue };
            let run = |saga: &Saga| {
                let step = &saga.steps[index];
                (step.phase == Phase::Done).then_some(step.generation)
            };
            if run(after).is_none() || run(after) == run(before) {
                continue;
            }
            match named(fields, after.steps[index].data.as_deref()) {
                Some((courier, shipment_id)) => self.shipments.push(ShipmentRow {
                    tenant: order.tenant.clone(),
                    courier,
                    shipment_id,
                    saga: after.id,
                    order_id: order.order_id.clone(),
                }),
                None => self.unnamed.push(step.name.clone()),
            }
        }
    }
}

/// Whether a scan is of the parcel that the saga stands for now, and not of one that was recalled
/// and is sent anew: that one's way says nothing about this one's.
pub(super) fn is_current(definition: &Definition, saga: &Saga, scan: &ScanRow) -> bool {
    let mut steps = definition.steps().iter().zip(&saga.steps);
    steps.any(|(step, state)| {
        let named = step.shipment.as_ref().and_then(|fields| named(fields, state.data.as_deref()));
        named.is_some_and(|(courier, id)| courier == scan.courier && id == scan.shipment_id)
    })
}

/// Courier and number of the shipment in a step's result.
fn named(fields: &ShipmentFields, result: Option<&str>) -> Option<(String, String)> {
    let result: Value = serde_json::from_str(result?).ok()?;
    let field = |name: &str| match result.get(name)? {
        Value::String(text) if is_id(text) => Some(text.clone()),
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        _ => None,
    };
    Some((field(&fields.courier)?, field(&fields.id)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shipment_is_named_by_texts_or_whole_numbers() {
        let fields = ShipmentFields { id: "id".to_owned(), courier: "by".to_owned() };
        let named = |result: &str| named(&fields, Some(result));
        let pair = |courier: &str, id: &str| Some((courier.to_owned(), id.to_owned()));
        assert_eq!(named(r#"{"id":"S-1","by":"jadlog","x":1}"#), pair("jadlog", "S-1"));
        assert_eq!(named(r#"{"id":17,"by":"jadlog"}"#), pair("jadlog", "17"));
        for none in [r#"{"id":"S-1"}"#, r#"{"id":"","by":"x"}"#, r#"{"id":1.5,"by":"x"}"#, "7"] {
            assert_eq!(named(none), None, "{none}");
        }
        assert_eq!(super::named(&fields, None), None);
    }
}
