// One table of IndexedDB, as promises; where that is refused (a private window), memory stands in.

const NAME = "coffee-tracker";
const TABLE = "queue";

const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

let opened = null;
const memory = new Map();
/** Does what is put here outlive the window? */
export let isDurable = true;

function open() {
  opened ??= (async () => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
    return settled(request);
  })().catch(() => {
    isDurable = false;
    return null;
  });
  return opened;
}

async function run(mode, action) {
  const database = await open();
  if (!database) return null;
  const transaction = database.transaction(TABLE, mode);
  const result = await settled(action(transaction.objectStore(TABLE)));
  if (mode === "readwrite" && transaction.commit) transaction.commit();
  return result;
}

/** Every row, oldest first. */
export async function all() {
  const rows = (await run("readonly", (table) => table.getAll())) ?? [...memory.values()];
  return rows.sort((a, b) => a.added - b.added);
}

export async function put(row) {
  if ((await run("readwrite", (table) => table.put(row))) === null) memory.set(row.id, row);
}

export async function remove(id) {
  await run("readwrite", (table) => table.delete(id));
  memory.delete(id);
}
