// Checks an OpenAPI document with the recommended rules of Redocly and of Spectral. Prints every problem, and
// fails if there is one.

import { readFile } from "node:fs/promises";
import redocly from "@redocly/openapi-core";
import spectralCore from "@stoplight/spectral-core";
import parsers from "@stoplight/spectral-parsers";
import rulesets from "@stoplight/spectral-rulesets";

const [file] = process.argv.slice(2);

// Rules about things that this document leaves out on purpose.
const REDOCLY_RULES = {
  // The health checks fail only with 503.
  "operation-4xx-response": "off",
};
const SPECTRAL_RULES = {
  // The repository says whom to contact.
  "info-contact": "off",
};

async function lintWithRedocly() {
  const config = await redocly.createConfig({ extends: ["recommended"], rules: REDOCLY_RULES });
  const problems = await redocly.lint({ ref: file, config });
  return problems.map(({ ruleId, severity, message, location }) => {
    return `redocly: ${severity} ${ruleId}: ${message} (${location[0]?.pointer ?? ""})`;
  });
}

async function lintWithSpectral() {
  const spectral = new spectralCore.Spectral();
  spectral.setRuleset({ extends: [rulesets.oas], rules: SPECTRAL_RULES });
  const text = await readFile(file, "utf8");
  const problems = await spectral.run(new spectralCore.Document(text, parsers.Json, file));
  const severities = ["error", "warning", "information", "hint"];
  return problems.map(({ code, severity, message, path }) => {
    return `spectral: ${severities[severity]} ${code}: ${message} (${path.join("/")})`;
  });
}

const problems = [...(await lintWithRedocly()), ...(await lintWithSpectral())];
problems.forEach((problem) => console.error(problem));
process.exitCode = problems.length > 0 ? 1 : 0;
