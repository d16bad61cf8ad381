"""What the recorded cells of chapter 119 measure at scale, apart from the systems."""
