"""The provider's batch interface: files of requests out, files of answers in, at half price."""
