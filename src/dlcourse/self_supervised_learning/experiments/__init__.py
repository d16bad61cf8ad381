"""What the recorded cells of chapter 120 measure at scale, apart from the systems."""
