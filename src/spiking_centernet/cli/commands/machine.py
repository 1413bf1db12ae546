"""The command that looks at the machine."""

from spiking_centernet.cli import output


def doctor(*, json: bool = False) -> None:
    """Say what is missing on this machine, and the fix.

    Args:
        json: print one JSON document

    Example:
        scn doctor
    """
    from rich.text import Text

    from spiking_centernet.cli.doctor import examine

    findings = examine()
    if json:
        output.write_document({"ok": all(finding.ok for finding in findings), "findings": findings})
        return
    rows = [
        (Text("ok", style="green") if finding.ok else Text("!!", style="bold red"), finding.what, finding.found,
         "" if finding.ok else finding.fix)
        for finding in findings
    ]  # fmt: skip
    output.show_table("", ("", "what", "found", "fix"), rows, words=4)
