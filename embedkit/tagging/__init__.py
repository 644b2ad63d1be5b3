"""Entities in texts: token classifiers (BertForTokenClassification), and their scores."""
