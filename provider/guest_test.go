package provider

func guestChild() bool { return false }
