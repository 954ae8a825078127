"""How the lab is shown: one file a page, found by standing in this folder with a TITLE, an ORDER and a build(). Never imports torch."""
