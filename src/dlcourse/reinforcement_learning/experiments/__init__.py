"""What the recorded cells of chapter 122 measure at scale, apart from the systems."""
