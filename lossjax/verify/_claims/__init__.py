"""The chapter's claims, one file a section."""
