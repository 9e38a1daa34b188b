//! What a dashboard is made of, as Grafana reads it.

use serde_json::{Value, json};

/// The version of Grafana's dashboard format that this is.
const SCHEMA_VERSION: u32 = 39;
/// How wide a dashboard is, in Grafana's units.
const WIDTH: u32 = 24;

/// The variable that stands for the Prometheus to ask.
fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${source}" })
}

/// What is asked for, and what each line of the answer is called.
pub(super) struct Query {
    expression: String,
    legend: &'static str,
}

pub(super) fn query(expression: impl Into<String>, legend: &'static str) -> Query {
    Query { expression: expression.into(), legend }
}

pub(super) struct Panel {
    title: String,
    description: &'static str,
    unit: &'static str,
    kind: Kind,
    width: u32,
    queries: Vec<Query>,
}

enum Kind {
    /// One number, red from this on.
    Number { red_from: Option<f64> },
    /// Lines over time.
    Lines,
    /// A heading, with what is said about what follows.
    Row,
}

impl Panel {
    /// A number that is good, or red from a value on.
    pub fn number(title: &str, description: &'static str, red_from: Option<f64>) -> Panel {
        Panel::new(title, description, Kind::Number { red_from }, 4)
    }

    pub fn lines(title: &str, description: &'static str) -> Panel {
        Panel::new(title, description, Kind::Lines, 8)
    }

    pub fn row(title: &str) -> Panel {
        Panel::new(title, "", Kind::Row, WIDTH)
    }

    fn new(title: &str, description: &'static str, kind: Kind, width: u32) -> Panel {
        let (title, queries) = (title.to_owned(), Vec::new());
        Panel { title, description, unit: "short", kind, width, queries }
    }

    /// A unit of Grafana's: `s`, `ops`, `percentunit`.
    pub fn in_unit(self, unit: &'static str) -> Panel {
        Panel { unit, ..self }
    }

    pub fn wide(self, width: u32) -> Panel {
        Panel { width, ..self }
    }

    pub fn asks(mut self, queries: impl IntoIterator<Item = Query>) -> Panel {
        self.queries.extend(queries);
        self
    }

    fn height(&self) -> u32 {
        match self.kind {
            Kind::Row => 1,
            Kind::Number { .. } => 4,
            Kind::Lines => 8,
        }
    }

    fn json(&self, id: usize, (x, y): (u32, u32)) -> Value {
        let position = json!({ "h": self.height(), "w": self.width, "x": x, "y": y });
        if let Kind::Row = self.kind {
            return json!({
                "id": id, "type": "row", "title": self.title, "collapsed": false,
                "gridPos": position, "panels": [],
            });
        }
        json!({
            "id": id,
            "type": match self.kind { Kind::Number { .. } => "stat", _ => "timeseries" },
            "title": self.title,
            "description": self.description,
            "datasource": source(),
            "gridPos": position,
            "fieldConfig": { "defaults": self.defaults(), "overrides": [] },
            "targets": self.targets(),
            "options": self.options(),
        })
    }

    fn defaults(&self) -> Value {
        let mut defaults = json!({ "unit": self.unit, "min": 0 });
        match self.kind {
            Kind::Number { red_from } => {
                let green = json!({ "color": "green", "value": null });
                let red = red_from.map(|from| json!({ "color": "red", "value": from }));
                let steps: Vec<Value> = std::iter::once(green).chain(red).collect();
                defaults["thresholds"] = json!({ "mode": "absolute", "steps": steps });
            }
            _ => defaults["custom"] = json!({ "fillOpacity": 10, "showPoints": "never" }),
        }
        defaults
    }

    fn targets(&self) -> Vec<Value> {
        let target = |(letter, query): (u8, &Query)| {
            json!({
                "refId": char::from(letter).to_string(),
                "datasource": source(),
                "expr": query.expression,
                "legendFormat": query.legend,
            })
        };
        (b'A'..=b'Z').zip(&self.queries).map(target).collect()
    }

    fn options(&self) -> Value {
        match self.kind {
            Kind::Number { .. } => json!({
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                "colorMode": "background",
                "graphMode": "area",
            }),
            _ => json!({
                "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
        }
    }
}

/// A dashboard of these panels, from left to right and from top to bottom.
pub(super) fn dashboard(name: &str, title: &str, description: &str, panels: &[Panel]) -> Value {
    let (mut x, mut y, mut tallest) = (0, 0, 0);
    let mut placed = Vec::with_capacity(panels.len());
    for (id, panel) in (1..).zip(panels) {
        if x + panel.width > WIDTH {
            (x, y, tallest) = (0, y + tallest, 0);
        }
        placed.push(panel.json(id, (x, y)));
        x += panel.width;
        tallest = tallest.max(panel.height());
    }
    json!({
        "uid": format!("makegood-{name}"),
        "title": format!("Makegood: {title}"),
        "description": description,
        "tags": ["makegood"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": true,
        "time": { "from": "now-6h", "to": "now" },
        "refresh": "30s",
        "timezone": "utc",
        "links": [{
            "type": "dashboards", "tags": ["makegood"], "title": "Makegood", "asDropdown": true,
            "includeVars": true, "keepTime": true, "targetBlank": false, "icon": "external link",
            "tooltip": "", "url": "",
        }],
        "templating": { "list": [{
            "name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus",
        }] },
        "panels": placed,
    })
}
