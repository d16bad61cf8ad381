"""What the recorded cells of chapter 121 measure at scale, apart from the systems."""
