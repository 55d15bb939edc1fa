"""What happens at boot before the service: facts about the machine in, settings out."""
