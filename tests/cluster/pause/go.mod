// What the sandbox of each pod runs.
module syncline.dev/tests/cluster/pause

go 1.26
