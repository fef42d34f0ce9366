// Failed requests of the settings, described for the user.

/** Describes why a request failed and what to do about it. `kept` tells what is not lost. */
export function describeFailure(error, kept = "") {
  const kinds = {
    unreachable: ["Can't reach the server.", "Try again once you are connected."],
    unauthorized: ["Your API key is no longer valid.", "Sign in, then try again."],
  };
  const tooLarge = error.message.includes("not enough space")
    ? ["There is not enough space on the server's disk.", "Make room, then try again."]
    : ["A proxy in front of the server refuses a file of this size.", "Raise its limit (in nginx client_max_body_size), then try again."];
  const known = error.status === 413 ? tooLarge : kinds[error.kind];
  return known ? [known[0], kept, known[1]].filter(Boolean).join(" ") : [error.message, kept].filter(Boolean).join(". ");
}
