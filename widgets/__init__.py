"""What the operator sees: one widget per thing worth looking at. Each draws a value of the domain and changes nothing."""
