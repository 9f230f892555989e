module github.com/skiff-build/skiff/examples/slackbot-2021

go 1.13

require github.com/slack-go/slack v0.8.2
