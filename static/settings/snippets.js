// Ready instructions for a new key, with the address of this server: Apple Shortcut, Home Assistant and curl.

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
  return [may.write && shortcut(key), (may.read || may.write) && homeAssistant(key, may), curl(key, may)];
}
