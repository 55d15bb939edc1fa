"""Models as data: manifests, fetching and checking their files, licences, prompts."""
