// Ready instructions for a new key, with the address of this server: Health Auto Export, HC Webhook, Apple Shortcut,
// Home Assistant and curl.

import { h } from "../app/dom.js";
import { example } from "./example.js";

const details = (title, ...content) => h("details", {}, h("summary", {}, title), content);

const shortcut = (key) =>
  details(
    "Apple Shortcut",
    h(
      "ol",
      { class: "steps" },
      h("li", {}, "In the Shortcuts app, tap +, and add the action “Get Contents of URL” with this URL:", example("URL", `${location.origin}/coffee/`)),
      h("li", {}, "Tap “Show More”, and set the method to POST."),
      h("li", {}, "Under “Headers”, add Authorization with this text:", example("Authorization", `Bearer ${key}`)),
      h("li", {}, "Set the request body to JSON, and add the number caffeine_mg with the value 80 and the text coffee_type with the value espresso."),
      h("li", {}, "Run the shortcut once, and allow it to connect to the server."),
    ),
  );

const healthAutoExport = (key) =>
  details(
    "Health Auto Export (iPhone)",
    h(
      "ol",
      { class: "steps" },
      h("li", {}, "In the app, open “Automations”, tap “New Automation”, and set the type to REST API."),
      h("li", {}, "Enter this URL:", example("Health Auto Export URL", `${location.origin}/ingest/health-auto-export`)),
      h("li", {}, "Under “Headers”, add Authorization with this value:", example("Health Auto Export header", `Bearer ${key}`)),
      h("li", {}, "Set the data type to Health Metrics, and select Heart Rate, Resting Heart Rate and Caffeine."),
      h("li", {}, "Set the export format to JSON in version 2, the date range to Default, and turn on “Batch Requests”. Turn off “Summarize Data” to store every sample instead of means."),
      h("li", {}, "Save, and tap “Manual Export” to send the first days."),
    ),
  );

const hcWebhook = (key) =>
  details(
    "HC Webhook (Android)",
    h(
      "ol",
      { class: "steps" },
      h("li", {}, "In the app, select the data types Heart Rate and Resting Heart Rate, and leave the resolution at Full."),
      h("li", {}, "Add this webhook URL:", example("HC Webhook URL", `${location.origin}/ingest/hc-webhook`)),
      h("li", {}, "Under “Edit Headers”, add Authorization with this value:", example("HC Webhook header", `Bearer ${key}`)),
      h("li", {}, "Tap “Test Webhook”. The test stores nothing."),
    ),
  );

const homeAssistant = (key, { read, write }) => {
  const command = `rest_command:
  log_coffee:
    url: ${location.origin}/coffee/
    method: post
    headers:
      Authorization: "Bearer ${key}"
    content_type: application/json
    payload: '{"caffeine_mg": {{ mg }}, "coffee_type": {{ kind | default("espresso") | to_json }}}'`;
  const sensor = `rest:
  - resource: ${location.origin}/coffee/today
    headers:
      Authorization: "Bearer ${key}"
    scan_interval: 60
    sensor:
      - name: Caffeine today
        value_template: "{{ value_json.total_caffeine_mg }}"
        unit_of_measurement: mg`;
  return details("Home Assistant", h("p", {}, "Add this to configuration.yaml and restart Home Assistant:"), example("Home Assistant configuration", [write && command, read && sensor].filter(Boolean).join("\n\n")));
};

function curl(key, { read, write, metrics }) {
  const request = (path, body = "") => `curl -H "Authorization: Bearer ${key}" ${body}${location.origin}${path}`;
  const lines = [
    write && request("/coffee/", `-d '{"caffeine_mg": 80, "coffee_type": "espresso"}' `),
    read && request("/coffee/today"),
    metrics && request("/metrics"),
  ];
  return details("curl", example("curl", lines.filter(Boolean).join("\n")));
}

/** Returns the instructions that suit what the key may do. */
export function snippets(key, scopes) {
  const may = Object.fromEntries(scopes.map((scope) => [scope, true]));
  return [may.write && healthAutoExport(key), may.write && hcWebhook(key), may.write && shortcut(key), (may.read || may.write) && homeAssistant(key, may), curl(key, may)];
}
