// Runs the test files, two at a time, and prints the report of each. Arguments are regular expressions that select
// tests by name.

import { readdirSync } from "node:fs";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL(".", import.meta.url));
const files = readdirSync(folder).filter((name) => name.endsWith(".test.js")).map((name) => folder + name);
const patterns = process.argv.slice(2).map((pattern) => new RegExp(pattern));

run({ files, concurrency: 2, ...(patterns.length && { testNamePatterns: patterns }) })
  .on("test:fail", () => (process.exitCode = 1))
  .compose(new spec())
  .pipe(process.stdout);
