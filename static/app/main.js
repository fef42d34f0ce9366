// Entry point of the dashboard.

import { startPage } from "./start.js";

startPage(import("./app.js"));
