"""The terminal chat's commands: what begins with a slash is not a question."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from data.artefacts import write_text
from serving.chat import CommandError, Conversation, Turn

HELP = """\
/model [ID]     the models that are served; with ID, ask that one from now on
/system [TEXT]  the system prompt; with TEXT, another one from now on; `/system -` for the server's own
/sources        what the last answer cites: cell and text of each row
/regen          ask the last question again, after /model or /system for one
/clear          forget what was said
/save FILE      write the conversation: FILE.json as API messages, any other name as Markdown
/help           this
exit            end, as Ctrl-D does
A line that ends with \\ goes on with the next; \"\"\" begins and ends a message of several lines.
A question that begins with a slash: begin it with two."""


class Commands:
    """Carries out commands on a conversation; `tell` shows what is no answer."""

    def __init__(
        self, conversation: Conversation, served: Sequence[str], tell: Callable[[str], None]
    ) -> None:
        """`served` are the models that may be asked."""
        self._conversation = conversation
        self._served = served
        self._tell = tell
        self._commands: dict[str, Callable[[str], Iterator[str] | None]] = {
            "/model": self._model,
            "/system": self._system,
            "/sources": self._sources,
            "/regen": self._regenerate,
            "/clear": self._clear,
            "/save": self._save,
            "/help": self._help,
        }

    def run(self, message: str) -> Iterator[str] | None:
        """Carry out one command; returns an answer to be shown where it asks for one.

        Raises:
            CommandError: there is no such command, or it cannot be carried out.
        """
        name, _, rest = message.partition(" ")
        command = self._commands.get(name.lower())
        if command is None:
            raise CommandError(f"no command {name!r}; /help lists them, `//` begins a question with a slash")
        return command(rest.strip())

    def _model(self, model: str) -> None:
        if not model:
            marks = (("* " if one == self._conversation.model else "  ") + one for one in self._served)
            self._tell("\n".join(marks))
            return
        if model not in self._served:
            raise CommandError(f"/model {model}: not served here; served: {', '.join(self._served)}")
        self._conversation.model = model
        self._tell(f"asking {model}")

    def _system(self, text: str) -> None:
        if text:
            self._conversation.system = None if text == "-" else text
        self._tell(self._conversation.system or "the server's own system prompt")

    def _sources(self, _: str) -> None:
        if not self._conversation.sources:
            self._tell("the last answer cites nothing")
        for source in self._conversation.sources:
            parts = (f"[{source.number}] {source.title}", source.cell, source.text, source.url)
            self._tell("\n    ".join(part for part in parts if part))

    def _regenerate(self, _: str) -> Iterator[str]:
        return self._conversation.ask_again()

    def _clear(self, _: str) -> None:
        self._conversation.clear()
        self._tell("forgotten")

    def _save(self, name: str) -> None:
        if not name:
            raise CommandError("/save: name a file, as in /save talk.md")
        path = Path(name).expanduser()
        if path.exists():
            raise CommandError(f"/save {name}: the file is there already; choose another name")
        if path.suffix == ".json":
            text = json.dumps(self._conversation.messages, ensure_ascii=False, indent=2) + "\n"
        else:
            text = "\n".join(_as_markdown(turn) for turn in self._conversation.turns)
        try:
            write_text(path, text)
        except OSError as error:
            raise CommandError(f"/save {name}: {error.strerror}") from error
        self._tell(f"saved {len(self._conversation.turns)} answers in {path}")

    def _help(self, _: str) -> None:
        self._tell(HELP)


def _as_markdown(turn: Turn) -> str:
    sources = "".join(f"- [{one.number}] {one.title}: {one.cell or one.url}\n" for one in turn.sources)
    return f"## {turn.question}\n\n{turn.answer}\n\n*{turn.model}*\n{sources}"
