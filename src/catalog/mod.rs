//! Definition files: parse, check, test, draw.
