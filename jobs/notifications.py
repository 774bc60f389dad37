"""Short messages to one person."""

from __future__ import annotations


class SendNotificationJobs:
    """Send a message: here it is printed to the attempt's own output, see `bgjobs logs ID`."""

    def pick_up(self, name: str, time: str, place: str) -> str:
        """Tell somebody when and where they are picked up."""
        return _send(name, f"you are picked up at {time}, at {place}.")

    def date_with_me(self, name: str, place: str, time: str) -> str:
        """Ask somebody out."""
        return _send(name, f"will you meet me at {place}, at {time}?")

    def save_me(self, name: str) -> str:
        """Ask somebody for help."""
        return _send(name, "please save me from this meeting!")


def _send(name: str, message: str) -> str:
    text = f"{name}, {message}"
    print(text)
    return text
