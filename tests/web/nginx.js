// nginx in front of the server: signs people in, and names them in the header Remote-User.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";

const NGINX = process.env.NGINX ?? "/usr/sbin/nginx";
/** Reason to skip the tests with nginx, or false. */
export const skip = !existsSync(NGINX) && "nginx is not installed";

/** Address from which nginx connects to the server, so that the server can tell it from other programs here. */
const OWN_ADDRESS = "127.0.0.2";
/** Settings of a server behind nginx. */
export const SETTINGS = { AUTH_PROXY_HEADER: "Remote-User", TRUSTED_PROXIES: OWN_ADDRESS };

/** Users of nginx, and their passwords. */
export const USERS = { anna: "anna's password", ben: "ben's password" };

/** Signs people in as in deploy/nginx.conf: the browser asks for the password. */
export const BASIC = {
  http: 'map $http_authorization $realm { default "Coffee Tracker"; "~*^Bearer " off; }',
  server: "auth_basic $realm; auth_basic_user_file users;",
  name: "$remote_user",
};

/**
 * Signs people in by a cookie, as Authelia and Authentik do, whose value is the name of the person. `refusal` is what
 * requests without it get.
 */
export const byCookie = (refusal) => ({
  http: 'map $cookie_session $person { default ""; "~^(?<name>[a-z]+)$" $name; }',
  server: `
    error_page 401 /login;
    if ($person = "") { set $refused yes; }
    if ($uri = /login) { set $refused no; }
    if ($refused = yes) { ${refusal} }
    location = /login { default_type text/html; return 200 "<!doctype html><title>Proxy</title><h1>Sign in at the proxy</h1>"; }`,
  name: "$person",
});
export const REFUSALS = {
  "a redirect to another host": "return 302 http://localhost:$server_port/login;",
  "a sign-in page": "rewrite ^ /login last;",
  "status 401": "return 401;",
};

async function freePort() {
  const listener = createServer();
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  return port;
}

async function isListening(url) {
  return fetch(url, { redirect: "manual" }).then(() => true, () => false);
}

/** Starts nginx in front of `server`. */
export async function startNginx(server, { http, server: rules, name }) {
  const folder = mkdtempSync(join(server.folder, "nginx-"));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const temporaryFolders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${folder}/${kind};`);
  const config = `
    ${process.getuid() === 0 ? "user root;" : ""}
    daemon off; worker_processes 1; pid ${folder}/pid; error_log stderr; events {}
    http {
      access_log off;
      ${temporaryFolders.join(" ")}
      ${http}
      server {
        listen 127.0.0.1:${port};
        ${rules}
        location / {
          proxy_pass ${server.url};
          proxy_bind ${OWN_ADDRESS};
          proxy_set_header Host $http_host;
          proxy_set_header X-Forwarded-For $remote_addr;
          proxy_set_header Remote-User ${name};
        }
      }
    }`;
  writeFileSync(join(folder, "nginx.conf"), config);
  writeFileSync(join(folder, "users"), Object.entries(USERS).map(([user, password]) => `${user}:{PLAIN}${password}\n`).join(""));
  const child = spawn(NGINX, ["-p", folder, "-c", join(folder, "nginx.conf"), "-e", "stderr"], { stdio: ["ignore", "ignore", "pipe"] });
  let output = "";
  child.stderr.setEncoding("utf8").on("data", (chunk) => (output += chunk));
  const exited = new Promise((resolve) => child.once("exit", resolve));
  while (!(await isListening(url))) {
    if (child.exitCode !== null) throw new Error(`nginx exited with ${child.exitCode}: ${output}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    url,
    async stop() {
      child.kill("SIGTERM");
      await exited;
    },
  };
}
