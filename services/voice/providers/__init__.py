"""Vendors of speech, each behind `SpeechProvider`."""
