"""Studies that the pages of chapter 123 show, apart from the systems they study."""
