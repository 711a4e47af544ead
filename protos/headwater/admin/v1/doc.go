// Package adminv1 is the Go of headwater/admin/v1: the admin API, as package admin serves it and headwaterctl calls it.
package adminv1
