// Reads an AsyncAPI document with the official parser; says what is wrong with it.
import { createRequire } from 'node:module';
const [packages, document] = process.argv.slice(2);
const { Parser, fromFile } = createRequire(`${packages}/node_modules/`)('@asyncapi/parser');
const { document: parsed, diagnostics } = await fromFile(new Parser(), document).parse();
const told = diagnostics.filter(({ severity }) => severity <= 1); // errors and warnings
for (const { path, message } of told) console.error(`${path.join('.')}: ${message}`);
process.exit(parsed && told.length === 0 ? 0 : 1);
