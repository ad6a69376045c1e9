"""What a release is: events, state, pipeline, judgement, journal. No terminal and no network client lives here."""
