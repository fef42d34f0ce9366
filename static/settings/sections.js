// The sections of the settings, in the order of the list. Each is a module with these exports:
//
//   id         last part of the section's address
//   title      its name in the list and its heading
//   summary    what it is for, below the name in the list
//   scopes     the scopes that a key needs to open it
//   show(container)
//              fills the container, loads what it shows, and returns the functions of the view that it needs:
//              `hasChanges()` whether leaving would discard input, or a sentence about what is lost, `refresh()` loads again what is shown,
//              `close()` stops timers

import * as backups from "./backups.js";
import * as data from "./data.js";
import * as devices from "./devices.js";
import * as people from "./people.js";
import * as system from "./system.js";
import * as you from "./you.js";

export const SECTIONS = [you, devices, data, backups, people, system];
