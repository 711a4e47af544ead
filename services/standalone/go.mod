module github.com/headwaterdb/headwater/services/standalone

go 1.26.0
