#!/usr/bin/env python3
"""Runs the commands in README.md and docs/.

    scripts/doc-commands.py run [FILE[:LINE]…]     run blocks in a copy of this folder, with the release binary
    scripts/doc-commands.py service FOLDER         write the scripts that need their own machine to FOLDER
    scripts/doc-commands.py list                   list every block and where it runs

Every block fenced with ```sh runs in its own shell, with a running server that has a month of data and two
backups, so that a reader can start at any block. A comment on the line before a block, `<!-- run: WORDS -->`,
changes this. WORDS is one or more of these, separated by `; `:

    service           run it on a booted machine where the service is installed and runs
    bare              run it on a booted machine where nothing is installed: the block installs it
    standby           run it on a booted machine that is both the Pi and its standby (scripts/test-standby.sh)
    apt               run it on a booted machine that reaches an apt repository at `URL` (scripts/test-apt.sh)
    never: REASON     do not run it; reasons are printed and counted
    exit N            the exit code of the last command, instead of 0
    answers TEXT      the reply to the prompt of the last command, on a terminal
    until Ctrl-C      the last command runs until it is stopped after two seconds
    after COMMAND     a command that is run first, without output (must be the last word)

In a checkout, `127.0.0.1:8000` is replaced by a free port. COFFEE_TRACKER names another binary. `service` writes
shell scripts, `bare-NN-….sh`, `service-NN-….sh`, `standby-NN-….sh` and `apt-NN-….sh`. Run those of one kind in their order, as
root, in a checkout with target/release/coffee-tracker. Each prints its commands and their output, and exits with 0,
or with 1 after a line FAIL. The `bare` scripts leave nothing installed.

Commands within the text are not run, but their subcommands, flags and files must exist, and links must have targets.
"""

import dataclasses
import pathlib
import re
import shlex
import subprocess
import sys

sys.dont_write_bytecode = True
import doc_instance  # noqa: E402

TOP = pathlib.Path(__file__).resolve().parent.parent
WORDS = re.compile(r"^(service|bare|standby|apt|never: .+|exit \d+|answers .+|until Ctrl-C|after .+)$")
# Kinds of machines for blocks that need their own.
MACHINES = ("bare", "service", "standby", "apt")
BLOCK_SECONDS = 180


@dataclasses.dataclass
class Block:
    file: str
    line: int
    commands: list[str]
    words: list[str]

    @property
    def place(self):
        return f"{self.file}:{self.line}"

    def word(self, name):
        """Returns the text after a word, or None without the word."""
        for word in self.words:
            if word == name:
                return ""
            if word.startswith(name + " ") or word.startswith(name + ":"):
                return word[len(name) + 1 :].strip()
        return None

    @property
    def where(self):
        return next((kind for kind in ("never", *MACHINES) if self.word(kind) is not None), "checkout")


def is_complete(text):
    if text.endswith("\\"):
        return False
    result = subprocess.run(["bash", "-n"], input=text + "\n", capture_output=True, text=True)
    return result.returncode == 0 and not result.stderr


def commands_of(lines, place):
    found, pending = [], []
    for line in lines:
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        pending.append(line)
        if is_complete("\n".join(pending)):
            found.append("\n".join(pending))
            pending = []
    if pending:
        raise SystemExit(f"{place}: incomplete command: {pending[0]}")
    return found


def blocks_of(file):
    lines = (TOP / file).read_text().splitlines()
    blocks, at = [], 0
    while at < len(lines):
        fence = re.match(r"^( *)```(\S*)", lines[at])
        if not fence:
            at += 1
            continue
        end = next(n for n in range(at + 1, len(lines)) if lines[n].strip() == "```")
        place, kind = f"{file}:{at + 1}", fence[2]
        if kind in ("bash", "shell", "console", "zsh"):
            raise SystemExit(f"{place}: fence commands with ```sh, so that they are run")
        if kind == "sh":
            words = words_before(lines, at, place)
            inner = [line[len(fence[1]) :] for line in lines[at + 1 : end]]
            blocks.append(Block(file, at + 1, commands_of(inner, place), words))
        at = end + 1
    return blocks


def words_before(lines, at, place):
    mark = re.match(r"^ *<!-- run: (.*) -->$", lines[at - 1]) if at else None
    if not mark:
        return []
    words = re.split(r"; (?=service|bare|standby|apt|never:|exit |answers |until |after )", mark[1])
    for word in words:
        if not WORDS.match(word):
            raise SystemExit(f"{place}: scripts/doc-commands.py does not support the word `{word}`")
    return words


def documents():
    return ["README.md", *texts("docs")]


def texts(folder):
    return sorted(str(path.relative_to(TOP)) for path in (TOP / folder).glob("*.md"))


def script_of(block, replaced=()):
    """Returns the block as a shell script that stops at the first failing command."""
    lines = [
        "#!/usr/bin/env bash",
        f"# {block.place}",
        "set -o pipefail",
        'command -v sudo >/dev/null || { sudo() { "$@"; }; export -f sudo; }',
        # A script must fail on an HTTP error.
        """curl() { command curl --fail "$@"; }; export -f curl""",
        """check_code() { [ "$1" = "$2" ] || { printf 'FAIL: exit code %s, expected %s\\n' "$1" "$2"; exit 1; }; }""",
        "exec 2>&1 </dev/null",
    ]
    if block.word("after"):
        lines += [f"{{ {block.word('after')}\n}} >/dev/null", "check_code $? 0"]
    for n, command in enumerate(block.commands, start=1):
        last = n == len(block.commands)
        expected = (block.word("exit") or "0") if last else "0"
        for old, new in replaced:
            command = command.replace(old, new)
        lines.append(f"printf '$ %s\\n' {shlex.quote(command)}")
        if last and block.word("until") is not None:
            command, expected = f"timeout --signal=INT 2 bash -c {shlex.quote(command)}", "124"
        if last and block.word("answers"):
            # `script` provides a terminal and passes only exported variables.
            lines.append("export $(compgen -v | grep -E '^(FILE|KEY)$')")
            terminal = f"script --quiet --flush --return --command {shlex.quote(command)} /dev/null"
            command = f"printf '%s\\n' {shlex.quote(block.word('answers'))} | {terminal}"
        lines += [f"{{ {command}\n}}", f"check_code $? {expected}"]
    return "\n".join(lines) + "\n"


def run(blocks):
    run_count = 0
    with doc_instance.Instance(TOP) as instance:
        for block in blocks:
            instance.renew()
            script = script_of(block, [("127.0.0.1:8000", f"127.0.0.1:{instance.port}")])
            code, output = instance.shell(script, BLOCK_SECONDS)
            if code != 0:
                print(f"\nFAIL: {block.place}\n{output}\n{instance.log()}", file=sys.stderr)
                raise SystemExit(1)
            run_count += len(block.commands)
            print(f"{block.place}: {len(block.commands)} commands succeeded", flush=True)
    return run_count


def write_scripts(blocks, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for kind in MACHINES:
        for n, block in enumerate((b for b in blocks if b.where == kind), start=1):
            name = f"{kind}-{n:02}-{pathlib.Path(block.file).stem}-{block.line}.sh"
            (folder / name).write_text(script_of(block))
            print(f"{name}: {len(block.commands)} commands")


def count(blocks, kind):
    return sum(len(block.commands) for block in blocks if block.where == kind)


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in ("run", "service", "list"):
        raise SystemExit(__doc__)
    blocks = [block for file in documents() for block in blocks_of(file)]
    if sys.argv[1] == "list":
        for block in blocks:
            print(f"{block.place}: {len(block.commands)} {'; '.join(block.words) or 'checkout'}")
    elif sys.argv[1] == "service":
        write_scripts(blocks, sys.argv[2])
    else:
        chosen = sys.argv[2:]
        selected = [b for b in blocks if b.where == "checkout" and (not chosen or b.file in chosen or b.place in chosen)]
        run_count = run(selected)
        checked = doc_instance.check_text(TOP, documents() + ["CONTRIBUTING.md", *texts("deploy")])
        never = [block for block in blocks if block.where == "never"]
        for block in never:
            print(f"never: {block.place}: {len(block.commands)}: {block.word('never')}")
        elsewhere = sum(count(blocks, kind) for kind in MACHINES)
        print(
            f"{run_count} commands run, {elsewhere} run by test-service, test-standby and test-apt, {count(blocks, 'never')} never run (reasons above); "
            f"{checked} commands, files and links within the text checked"
        )


if __name__ == "__main__":
    main()
