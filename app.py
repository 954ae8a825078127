"""`python app.py` opens the lab in a browser."""

from __future__ import annotations

import argparse
import logging
import os
import threading

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # the hub is asked for a model that someone names, and told nothing else

from models.errors import LabError
from panels import page, theme

VISITORS = 64  # waiting runs before the page says that it is busy: twice a class


def warm() -> None:
    """Brings in the heavy libraries and the default organism while the first visitor reads."""
    from models import catalog

    try:
        catalog.load("scribe", allow_download=False)
    except LabError as error:
        logging.getLogger("mnemoscope").warning("scribe is not ready: %s", error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
    args = parser.parse_args()
    blocks = page.build().queue(max_size=VISITORS, default_concurrency_limit=None)
    blocks.launch(server_name=args.host, server_port=args.port, theme=theme.theme(), css_paths=theme.CSS, head=theme.HEAD,
                  favicon_path=theme.ICON, ssr_mode=False, run_history=False, footer_links=["api"], max_file_size="10mb",
                  prevent_thread_lock=True, show_error=True)
    threading.Thread(target=warm, daemon=True).start()
    blocks.block_thread()


if __name__ == "__main__":
    main()
