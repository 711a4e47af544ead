module github.com/headwaterdb/headwater

go 1.26.0
