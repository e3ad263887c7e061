module github.com/photinus-project/photinus/gateway

go 1.26
