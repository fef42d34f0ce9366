// Settings of this browser: theme and time format.

import { loadItem, saveItem } from "./session.js";
import { byId, field, select } from "./dom.js";
import { setTimeFormat } from "./format.js";

const THEME_ITEM = "coffee.theme";
const HOURS_ITEM = "coffee.hours";

/** Adds a select that keeps its choice in `item` and calls `onChoose` when it changes. */
function addSetting(label, item, choices, onChoose) {
  const control = select(choices, {
    onchange: () => {
      saveItem(item, control.value);
      onChoose(control.value);
    },
  });
  control.value = loadItem(item) ?? "system";
  // A value that an older or newer version of this page has stored.
  if (control.selectedIndex < 0) control.selectedIndex = 0;
  byId("settings").append(field(label, control));
}

// Before anything is shown.
setTimeFormat(loadItem(HOURS_ITEM));

/** `onTimeFormatChange` shows all times again. */
export function start(onTimeFormatChange) {
  addSetting("Theme", THEME_ITEM, [["system", "System"], ["light", "Light"], ["dark", "Dark"]], () => dispatchEvent(new Event("coffee-theme")));
  addSetting("Time format", HOURS_ITEM, [["system", "System"], ["12", "12 hours"], ["24", "24 hours"]], (hours) => {
    setTimeFormat(hours);
    onTimeFormatChange();
  });
}
