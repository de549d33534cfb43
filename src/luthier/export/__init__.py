"""What leaves the workbench: a merged model that answers as the trained one did, and the card that goes with it."""
