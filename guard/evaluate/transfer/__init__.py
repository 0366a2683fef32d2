"""How well a training recipe carries over to sources that it never saw: whole sources held out in turn."""
