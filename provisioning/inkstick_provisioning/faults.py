"""What can go wrong while the machine is set up: a sentence for people, and what to do."""

from __future__ import annotations

from inkstick.errors import InkstickError


class SetupError(InkstickError):
    """`code` is stable; the console shows `message` and `hint`."""

    code = "setup"
    default_message = "This computer could not be set up."
    default_hint = "Start it again. Documents are kept in memory meanwhile."


class WrongKey(SetupError):
    code = "wrong_key"
    default_message = "This passphrase does not open the data volume."
    default_hint = (
        "Look at capital letters. This computer's own keyboard counts as an American, German or French one: "
        "on another, signs and letters may have changed places."
    )


class NotEmpty(SetupError):
    code = "not_empty"
    default_message = "The disk is not empty."
    default_hint = "Inkstick only takes disks without any content. Choose another place."


class VolumeDamaged(SetupError):
    code = "volume_damaged"
    default_message = "The data volume is damaged and could not be repaired."
    default_hint = "Go on in memory, and have the stick looked at before it is used again."


class StillWriting(SetupError):
    code = "still_writing"
    default_message = "The service did not stop, so nothing was moved onto the data volume."
    default_hint = "Wait a minute and answer once more."


class NoRoom(SetupError):
    code = "no_room"
    default_message = "The data volume has too little room for what was taken in meanwhile."
    default_hint = "Remove some of it on the page and answer once more, or switch off: then what is in memory is lost."


class StillOpen(SetupError):
    code = "still_open"
    default_message = "The data volume could not be locked: somebody is using it still. It is open."
    default_hint = "Wait a minute and press L again, or switch off."


class UnattendedError(SetupError):
    """`problems`: each place in the file with what is wrong there."""

    code = "unattended"
    default_hint = "See docs/provisioning.md for what the file may hold."

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("inkstick.toml cannot be used: " + "; ".join(problems))
