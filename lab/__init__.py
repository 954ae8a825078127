"""What can be done to a model: experiments, one method a file. Knows no screen: never imports gradio or plotly."""
